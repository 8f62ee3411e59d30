import { fileURLToPath, URL } from 'node:url'

import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vitest/config'

const EDGE = process.env.EVERTURN_EDGE ?? 'http://127.0.0.1:8000'

export default defineConfig({
  plugins: [vue()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  build: {
    // Colours use the CSS function light-dark(); lowering it would double the style sheet.
    cssTarget: ['chrome123', 'safari17.5', 'firefox120'],
    // The polyfill is for browsers that could not run this page anyway.
    modulePreload: { polyfill: false },
    // Data URLs of scripts and fonts would be refused by the content security policy.
    assetsInlineLimit: 0,
  },
  server: {
    port: 5173,
    proxy: {
      // The edge lets no foreign page in; this one stands in for its own.
      '/api': { target: EDGE, headers: { origin: EDGE } },
      '/ws': { target: EDGE, headers: { origin: EDGE }, ws: true },
    },
  },
  test: {
    environment: 'jsdom',
    include: ['src/**/*.test.ts'],
    restoreMocks: true,
    unstubGlobals: true,
  },
})
