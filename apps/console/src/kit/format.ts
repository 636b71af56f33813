// Numbers and instants for people.
export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const step = n <= 0 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(n) / 10));
  const value = n / 1024 ** step;
  return `${value >= 100 || step === 0 ? Math.round(value) : value.toFixed(1)} ${units[step]}`;
}

/** Thousandths of a core, as the API counts them. */
export function cores(milli: number): string {
  return `${(milli / 1000).toFixed(milli % 1000 === 0 ? 0 : 1)} cores`;
}

/** How long something took, in milliseconds. */
export function span(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

// A server's clock is not this one's, and `now` is some seconds old where it is drawn.
const CLOCKS_DIFFER_MS = 30_000;

export function ago(at: number, now: number): string {
  const seconds = at > now && at - now < CLOCKS_DIFFER_MS ? 0 : Math.round((now - at) / 1000);
  const ahead = seconds < 0;
  const n = Math.abs(seconds);
  const text =
    n < 60
      ? `${n} s`
      : n < 3600
        ? `${Math.floor(n / 60)} min`
        : n < 86400
          ? `${Math.floor(n / 3600)} h`
          : `${Math.floor(n / 86400)} d`;
  return ahead ? `in ${text}` : n < 5 ? 'just now' : `${text} ago`;
}
