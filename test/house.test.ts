import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Where each floor lives, from the table in CONTRIBUTING.md, the lowest first. */
const floors = Array.from(
  readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8').matchAll(/^\| *\d½? *\|([^|]*)\|/gm),
  ([, where]) => Array.from(where.matchAll(/`src\/([^`]+)`/g), ([, place]) => place),
).reverse()

/** Entries of the package, which only re-export. */
const isEntry = (name: string) => /^(index|report|export|train|(browser\/)?(model|generate))\.ts$/.test(name)

/** Files of the library, relative to src/; the entries only re-export, the kernels' assembly is another language. */
const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .map((name) => name.replaceAll('\\', '/'))
  .filter((name) => name.endsWith('.ts') && !name.startsWith('kernels/assembly/') && !isEntry(name))

const imports = new Map(
  files.map((file) => [
    file,
    Array.from(
      readFileSync(join(root, 'src', file), 'utf8').matchAll(/(?:from|import\()\s*'(\.[^']+)\.js'/g),
      ([, path]) => `${posix.join(posix.dirname(file), path)}.ts`,
    ),
  ]),
)

const floorOf = (file: string) =>
  floors.findIndex((places) =>
    places.some((place) => (place.endsWith('/') ? file.startsWith(place) : file === place)),
  )

it('every file lives on a floor', () => {
  expect(floors.length).toBe(8)
  expect(files.filter((file) => floorOf(file) < 0)).toEqual([])
})

it('no file imports from a floor above its own', () => {
  const upwards = [...imports].flatMap(([file, paths]) =>
    paths.filter((path) => floorOf(path) > floorOf(file)).map((path) => `${file} imports ${path}`),
  )
  expect(upwards).toEqual([])
})

it('no imports go in a circle', () => {
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]) => {
    if (path.includes(file)) throw new Error(`a circle: ${[...path, file].join(' -> ')}`)
    if (done.has(file)) return
    for (const next of imports.get(file) ?? []) visit(next, [...path, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])
  expect(done.size).toBeGreaterThanOrEqual(files.length)
})

it('only what chooses between the engines of the forward pass knows both', () => {
  const folders = ['model/ops/kernels/', 'model/ops/tensors/']
  const knows = (file: string, folder: string) =>
    file.startsWith(folder) || (imports.get(file) ?? []).some((path) => path.startsWith(folder))
  expect(files.filter((file) => folders.every((folder) => knows(file, folder)))).toEqual([
    'model/ops/running.ts',
  ])
})

it('no file is longer than 400 lines', () => {
  const long = files.filter(
    (file) =>
      !file.endsWith('binaries.ts') && readFileSync(join(root, 'src', file), 'utf8').split('\n').length > 401,
  )
  expect(long).toEqual([])
})

it('no folder holds more than eighteen files, but for the families, of which each is one', () => {
  const filesIn = new Map<string, number>()
  for (const name of readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.ts') || isEntry(name)) continue
    const folder = posix.dirname(name.replaceAll('\\', '/'))
    filesIn.set(folder, (filesIn.get(folder) ?? 0) + 1)
  }
  filesIn.delete('model/families')
  expect([...filesIn].filter(([, count]) => count > 18)).toEqual([])
})
