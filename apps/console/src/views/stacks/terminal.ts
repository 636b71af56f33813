// xterm.js under a Content-Security-Policy that allows no style in the page.
//
// It would write `<style>` elements and `style` attributes. So it lives in a shadow tree, and while it makes its elements
// the page's `createElement` is ours: a style element becomes a sheet that the tree adopts, and the `style` attribute of a
// span is set by script, which the policy leaves alone. Its own `documentOverride` does not reach all of its parts (6.0).
import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import css from '@xterm/xterm/css/xterm.css?inline';

type Create = (name: string) => HTMLElement;

/** An element that is none for the eye, and whose text is a sheet of the tree. */
function sheet(root: ShadowRoot, create: Create): HTMLElement {
  const sheet = new CSSStyleSheet();
  root.adoptedStyleSheets.push(sheet);
  const stand = create('template');
  Object.defineProperty(stand, 'textContent', { set: (text: string) => sheet.replaceSync(text) });
  const remove = stand.remove.bind(stand);
  stand.remove = () => {
    root.adoptedStyleSheets = root.adoptedStyleSheets.filter((one) => one !== sheet);
    remove();
  };
  return stand;
}

/** A span whose `style` attribute is set as script may set it. */
function span(create: Create): HTMLElement {
  const element = create('span');
  const set = element.setAttribute.bind(element);
  element.setAttribute = (name, value) => {
    if (name === 'style') element.style.cssText = value;
    else set(name, value);
  };
  return element;
}

/** How many terminals there are: while there is one, spans are ours. */
let terminals = 0;

/** Lets terminals make their elements; a style element is one of the page's again when the terminal has opened. */
function makeElements(style: (create: Create) => HTMLElement): { opened: () => void; closed: () => void } {
  const real: Create = Document.prototype.createElement.bind(document);
  const patch = (create: Create) =>
    Object.defineProperty(document, 'createElement', { configurable: true, value: create });
  const spans: Create = (name) => (name === 'span' ? span(real) : real(name));
  terminals += 1;
  patch((name) => (name === 'style' ? style(real) : spans(name)));
  return {
    opened: () => patch(spans),
    closed: () => {
      terminals -= 1;
      if (terminals === 0) Reflect.deleteProperty(document, 'createElement');
    },
  };
}

export interface Shell {
  terminal: Terminal;
  fit: () => { cols: number; rows: number };
  close: () => void;
}

/** A terminal that fills `host`. */
export function shell(host: HTMLElement): Shell {
  const root = host.shadowRoot ?? host.attachShadow({ mode: 'open' });
  const base = new CSSStyleSheet();
  base.replaceSync(`${css}\n:host { display: block; height: 100%; }\n.room { height: 100%; }`);
  root.adoptedStyleSheets = [base];
  const terminal = new Terminal({
    cursorBlink: false,
    fontSize: 13,
    fontFamily: "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace",
    theme: { background: '#10141a', foreground: '#e6ebf1' },
  });
  const fitter = new FitAddon();
  terminal.loadAddon(fitter);
  const room = document.createElement('div');
  room.className = 'room';
  root.replaceChildren(room);
  const given = makeElements((create) => sheet(root, create));
  terminal.open(room);
  given.opened();
  return {
    terminal,
    fit: () => {
      fitter.fit();
      return { cols: terminal.cols, rows: terminal.rows };
    },
    close: () => {
      terminal.dispose();
      given.closed();
      root.replaceChildren();
      root.adoptedStyleSheets = [];
    },
  };
}
