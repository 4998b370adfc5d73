import { execFile } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const script = 'scripts/include-examples.mjs'

/** Exit status and output of the script of a repository. */
async function include(folder: string, ...flags: string[]): Promise<{ status: number; text: string }> {
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [join(folder, script), ...flags])
    return { status: 0, text: stdout }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
    return { status: code, text: stdout + stderr }
  }
}

it('the guides quote the examples as they are', async () => {
  expect(await include(root, '--check')).toEqual({ status: 0, text: '' })
})

it('every example but the quickstart is quoted in docs/examples.md', () => {
  const text = readFileSync(join(root, 'docs/examples.md'), 'utf8')
  const quoted = Array.from(text.matchAll(/<!-- include:examples\/(\S+) -->/g), ([, name]) => name)
  const examples = readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.ts'))
  expect(quoted.sort()).toEqual(examples.filter((name) => name !== 'quickstart.ts').sort())
})

describe('a repository of one guide and one example', () => {
  let folder: string
  const guide = () => join(folder, 'docs/guide.md')

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'gptvq-include-'))
    for (const name of ['docs', 'examples', 'scripts']) mkdirSync(join(folder, name))
    copyFileSync(join(root, script), join(folder, script))
    writeFileSync(join(folder, 'examples/one.ts'), "/**\n * About it.\n */\nconsole.log('$1 $& one')\n")
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it('is told that its guide is behind, is brought up to date, and then stays as it is', async () => {
    const start = 'Before\n<!-- include:examples/one.ts -->\nold\n'
    writeFileSync(guide(), `${start}<!-- /include -->\nAfter\n`)
    const behind = await include(folder, '--check')
    expect(behind.status).toBe(1)
    expect(behind.text).toContain('docs/guide.md is behind')
    expect(readFileSync(guide(), 'utf8')).toContain('old')

    expect((await include(folder)).status).toBe(0)
    const expected =
      'Before\n<!-- include:examples/one.ts -->\n\n' +
      "```ts\nconsole.log('$1 $& one')\n```\n\n<!-- /include -->\nAfter\n"
    expect(readFileSync(guide(), 'utf8')).toBe(expected)
    expect(await include(folder, '--check')).toEqual({ status: 0, text: '' })
    expect(await include(folder)).toEqual({ status: 0, text: '' })
  })

  it('is told of an include without an end, and of a file that is not there; nothing is written', async () => {
    for (const [text, message] of [
      ['<!-- include:examples/one.ts -->\nno end\n', 'close each of them'],
      ['<!-- include:examples/two.ts -->\n<!-- /include -->\n', 'examples/two.ts'],
    ]) {
      writeFileSync(guide(), text)
      const result = await include(folder)
      expect(result.status).toBe(1)
      expect(result.text).toContain(message)
      expect(readFileSync(guide(), 'utf8')).toBe(text)
    }
  })
})
