import { readdir, readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'

const folder = new URL('../../src/report/', import.meta.url)

/** What the files of the entry import, each with the file that does. */
async function imports(): Promise<{ file: string; from: string }[]> {
  const names = await readdir(folder, { recursive: true })
  const files = names.filter((name) => name.endsWith('.ts')).map((name) => new URL(name, folder))
  const found: { file: string; from: string }[] = []
  for (const file of [new URL('../report.ts', folder), ...files]) {
    const text = await readFile(file, 'utf8')
    for (const [, from] of text.matchAll(/from '([^']+)'/g)) {
      found.push({ file: file.pathname, from: from.startsWith('.') ? new URL(from, file).pathname : from })
    }
  }
  return found
}

test('the pictures import nothing above the parts, no engine and nothing of Node', async () => {
  const allowed =
    /\/src\/(report|packing|codebook)\/|\/src\/common\/(matrix|random|errors|check-option|shown-value)\.js$|^(@observablehq\/plot|linkedom)$/
  const found = await imports()
  expect(found.length).toBeGreaterThan(50)
  expect(found.filter(({ from }) => !allowed.test(from))).toEqual([])
})
