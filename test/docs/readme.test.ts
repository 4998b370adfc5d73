import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

it('the library snippet of the README runs as it stands', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const snippet = /## As a library\n\n```ts\n([\s\S]*?)```/.exec(readme)?.[1]
  expect(snippet).toBeDefined()
  mkdirSync(join(root, 'out'), { recursive: true })
  const file = join(root, 'out', 'readme-snippet.ts')
  try {
    writeFileSync(file, snippet!)
    const options = { cwd: root, encoding: 'utf8' } as const
    const printed = execFileSync(process.execPath, ['--import', 'tsx', file], options)
    const [bits, snr] = printed.trim().split('\n').map(Number)
    expect(bits).toBeLessThanOrEqual(2.125)
    expect(snr).toBeGreaterThan(5)
  } finally {
    rmSync(file, { force: true })
  }
})
