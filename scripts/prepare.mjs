// Builds all that is published. npm runs this in a clone after `npm ci` or `npm install`, in the temporary clone of a
// package that is installed from git, and in a folder that is installed as `npm install ./folder`: there the
// development dependencies may be missing.
import { execFileSync, execSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writePublished } from './publish-manifest.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const needed = ['assemblyscript', 'typescript', '@tensorflow/tfjs-core']

if (needed.some((name) => !existsSync(join(root, 'node_modules', name, 'package.json')))) {
  console.log('gptvq: installing what the build needs')
  execSync('npm ci --include=dev --ignore-scripts --no-audit --no-fund', { cwd: root, stdio: 'inherit' })
}
execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { stdio: 'inherit' })

// what npm packs of its temporary clone is what gets installed
if (process.env._PACOTE_NO_PREPARE_ && /^git-clone/.test(basename(root))) writePublished(root)
