// The editor of a Compose file: CodeMirror, with problems underlined where they are. It lives in a shadow tree, where it
// adopts its styles by script: in the page itself it would write them, which the Content-Security-Policy forbids.
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { yaml } from '@codemirror/lang-yaml';
import { bracketMatching, HighlightStyle, indentUnit, syntaxHighlighting } from '@codemirror/language';
import { lintGutter, setDiagnostics, type Diagnostic } from '@codemirror/lint';
import { EditorState, type Text } from '@codemirror/state';
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import { useEffect, useRef } from 'react';
import { type Schemas } from '~/api/client';

type Problem = Schemas['ComposeProblem'];

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: 'var(--l-info)' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--l-good)' },
  { tag: tags.comment, color: 'var(--l-dim)', fontStyle: 'italic' },
  { tag: [tags.number, tags.bool, tags.null], color: 'var(--l-warn)' },
]);
const theme = EditorView.theme({
  '&': {
    fontSize: '13px',
    color: 'var(--l-text)',
    border: '1px solid var(--l-line)',
    borderRadius: '6px',
    minHeight: '320px',
    maxHeight: '65vh',
  },
  '&.cm-focused': { outline: '2px solid var(--l-info)', outlineOffset: '1px' },
  '.cm-scroller': {
    fontFamily: "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace",
    overflow: 'auto',
    minHeight: '320px',
  },
  '.cm-gutters': { background: 'var(--l-bg)', color: 'var(--l-dim)', borderColor: 'var(--l-line)' },
  '.cm-activeLine': { background: 'color-mix(in srgb, var(--l-info) 7%, transparent)' },
  '.cm-content': { caretColor: 'var(--l-text)' },
  '.cm-cursor': { borderLeftColor: 'var(--l-text)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': {
    background: 'color-mix(in srgb, var(--l-info) 25%, transparent)',
  },
  '.cm-tooltip': { background: 'var(--l-surface)', borderColor: 'var(--l-line)', color: 'var(--l-text)' },
});

/** Where a problem is: from its column to the end of the line. Lines that were deleted since count as the last one. */
function mark(text: Text, { line, column, message, hint, severity }: Problem): Diagnostic {
  const at = text.line(Math.min(Math.max(1, line), text.lines));
  const from = Math.min(at.to, at.from + Math.max(0, column - 1));
  return {
    from,
    to: Math.max(from, at.to),
    severity,
    message: hint === '' ? message : `${message}. ${hint}`,
  };
}

interface Props {
  text: string;
  change: (text: string) => void;
  problems: readonly Problem[];
  /** The line to go to; a new object goes there again. */
  go: { line: number } | undefined;
}
export function Editor({ text, change, problems, go }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const editor = useRef<EditorView>(null);
  const changed = useRef(change);
  const first = useRef(text);
  useEffect(() => {
    changed.current = change;
  }, [change]);
  useEffect(() => {
    if (host.current === null) return;
    // A shadow tree stays with its element, also when an effect runs twice.
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: 'open' });
    const view = new EditorView({
      root,
      parent: root,
      state: EditorState.create({
        doc: first.current,
        extensions: [
          lineNumbers(),
          lintGutter(),
          history(),
          drawSelection(),
          highlightActiveLine(),
          bracketMatching(),
          indentUnit.of('  '),
          yaml(),
          syntaxHighlighting(colours),
          theme,
          keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
          EditorView.contentAttributes.of({ 'aria-label': 'Compose file' }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) changed.current(update.state.doc.toString());
          }),
        ],
      }),
    });
    // What scrolls can be scrolled by keyboard, wherever the cursor is.
    view.scrollDOM.tabIndex = 0;
    editor.current = view;
    return () => {
      first.current = view.state.doc.toString();
      view.destroy();
      editor.current = null;
    };
  }, []);
  useEffect(() => {
    const view = editor.current;
    if (view === null) return;
    const marks = problems.map((problem) => mark(view.state.doc, problem));
    view.dispatch(setDiagnostics(view.state, marks));
  }, [problems]);
  useEffect(() => {
    const view = editor.current;
    if (view === null || go === undefined) return;
    const { from } = view.state.doc.line(Math.min(Math.max(1, go.line), view.state.doc.lines));
    view.dispatch({ selection: { anchor: from }, scrollIntoView: true });
    view.focus();
  }, [go]);
  return (
    <>
      <div ref={host} />
      <p className="dim">Tab indents; to leave the editor by keyboard, press Esc and then Tab.</p>
    </>
  );
}
