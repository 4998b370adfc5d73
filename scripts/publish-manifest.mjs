// The package.json that is published has no scripts and no development dependencies: nothing of it runs when it is
// installed, and npm has nothing to warn of. `--write` puts it in the place of the source's, `--restore` undoes that.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Puts the published package.json in the place of the source's. */
export function writePublished(root) {
  const {
    scripts: _,
    devDependencies: __,
    ...published
  } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  writeFileSync(join(root, 'package.json'), `${JSON.stringify(published, null, 2)}\n`)
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const root = fileURLToPath(new URL('..', import.meta.url))
  const source = join(root, 'out', 'package.source.json')
  if (process.argv[2] === '--write') {
    mkdirSync(join(root, 'out'), { recursive: true })
    writeFileSync(source, readFileSync(join(root, 'package.json')))
    writePublished(root)
  } else if (existsSync(source)) renameSync(source, join(root, 'package.json'))
}
