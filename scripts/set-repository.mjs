// Writes where the code is published into package.json, once it is known: repository, homepage and bugs, by which the
// page on npm finds the pictures and links of README.md: `node scripts/set-repository.mjs https://github.com/OWNER/NAME`.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const url = process.argv[2]?.replace(/\.git$|\/$/g, '')
if (!url || !/^https:\/\/[\w.-]+\/[\w.-]+\/[\w.-]+$/.test(url)) {
  throw new Error(`expected https://HOST/OWNER/NAME, got ${process.argv[2]}`)
}
const file = join(fileURLToPath(new URL('..', import.meta.url)), 'package.json')
const manifest = Object.entries(JSON.parse(readFileSync(file, 'utf8'))).filter(
  ([field]) => !['repository', 'homepage', 'bugs'].includes(field),
)
const at = manifest.findIndex(([field]) => field === 'license')
manifest.splice(
  at,
  0,
  ['homepage', `${url}#readme`],
  ['bugs', { url: `${url}/issues` }],
  ['repository', { type: 'git', url: `git+${url}.git` }],
)
writeFileSync(file, `${JSON.stringify(Object.fromEntries(manifest), null, 2)}\n`)
