/// <reference types="vitest/config" />
// The build of the console. In development the API is a real server's: LATTICE_SERVER names it (default
// http://127.0.0.1:7400), and LATTICE_TOKEN, where set, is sent as a bearer token, so that nobody has to sign in.
import react from '@vitejs/plugin-react';
import { fileURLToPath } from 'node:url';
import { defineConfig, type ProxyOptions } from 'vite';

const server = process.env.LATTICE_SERVER ?? 'http://127.0.0.1:7400';
const token = process.env.LATTICE_TOKEN;
const proxied: ProxyOptions = {
  target: server,
  changeOrigin: true,
  ws: true,
  headers: { origin: server, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
};
const proxy = { '/v1': proxied };

export default defineConfig({
  plugins: [react()],
  resolve: { alias: { '~': fileURLToPath(new URL('./src', import.meta.url)) } },
  server: { host: '127.0.0.1', proxy },
  preview: { host: '127.0.0.1', proxy },
  build: {
    target: 'es2022',
    manifest: true,
    // Nothing inline: the Content-Security-Policy allows files of our own alone.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
  },
  test: { include: ['src/**/*.test.ts', 'src/**/*.test.tsx'], environment: 'node' },
});
