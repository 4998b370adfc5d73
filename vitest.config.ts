import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig({
  resolve: {
    alias: [
      { find: /^gptvq$/, replacement: source('./src/index.ts') },
      { find: /^gptvq\/model$/, replacement: source('./src/model.ts') },
      { find: /^gptvq\/generate$/, replacement: source('./src/generate.ts') },
      { find: /^gptvq\/report$/, replacement: source('./src/report.ts') },
      { find: /^gptvq\/export$/, replacement: source('./src/export.ts') },
      { find: /^gptvq\/distributed$/, replacement: source('./src/distributed/index.ts') },
      { find: /^gptvq\/train$/, replacement: source('./src/train.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/property-seed.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    env: { GPTVQ_ENGINE: 'wasm' },
  },
})
