import js from '@eslint/js';
import hooks from 'eslint-plugin-react-hooks';
import globals from 'globals';
import ts from 'typescript-eslint';

export default ts.config(
  {
    ignores: ['dist', 'node_modules', 'src/api/generated', 'test-results', 'playwright-report', 'e2e/*.mjs'],
  },
  js.configs.recommended,
  ...ts.configs.strict,
  { files: ['src/**/*.{ts,tsx}'], ...hooks.configs.flat['recommended-latest'] },
  {
    languageOptions: { globals: { ...globals.browser, ...globals.node } },
    rules: {
      'max-lines': ['error', { max: 420, skipComments: true }],
      'no-console': 'error',
      // The API leaves out what is null and says null alike: `== null` means both.
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      // The virtualiser hands out functions that the compiler cannot memoise; we do not compile.
      'react-hooks/incompatible-library': 'off',
    },
  },
  { files: ['scripts/**', 'e2e/**'], rules: { 'no-console': 'off' } },
);
