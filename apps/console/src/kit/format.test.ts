import { expect, it } from 'vitest';
import { ago, bytes, cores } from './format';

it('writes bytes in the unit that fits', () => {
  expect([0, 512, 1024, 1536, 500 * 2 ** 20, 2 ** 40].map(bytes)).toEqual([
    '0 B',
    '512 B',
    '1.0 KiB',
    '1.5 KiB',
    '500 MiB',
    '1.0 TiB',
  ]);
});
it('writes cores from thousandths', () => {
  expect([cores(4000), cores(2500)]).toEqual(['4 cores', '2.5 cores']);
});
it('says how long ago, and how long until', () => {
  const now = 1_000_000_000;
  expect([now, now - 59_000, now - 3_600_000, now + 120_000, now + 20_000].map((at) => ago(at, now))).toEqual(
    ['just now', '59 s ago', '1 h ago', 'in 2 min', 'just now'],
  );
});
