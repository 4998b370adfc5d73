// Builds the page of examples/web into out/web and serves it: npm run web; with --build only the former.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildWeb } from './build-web.js'
import { serveWeb } from './serve-web.js'

const folder = join(fileURLToPath(new URL('..', import.meta.url)), 'out', 'web')
await buildWeb(folder)
console.log(`built ${folder}`)
if (!process.argv.includes('--build')) {
  const { url } = await serveWeb(folder, Number(process.env.PORT ?? 8000))
  console.log(`open ${url}`)
}
