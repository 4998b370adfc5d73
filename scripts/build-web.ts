import { cp, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))
const web = join(root, 'examples/web')
const model = join(root, 'examples/models/tiny-llama')
const modelFiles = [
  ...[
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ],
  ...['texts/calibration.txt', 'texts/evaluation.txt'],
]

/** Builds the page of examples/web with the embedded model: plain files, for any server. */
export async function buildWeb(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  await build({
    entryPoints: { main: join(web, 'page/main.ts'), worker: join(web, 'worker.ts') },
    outdir: folder,
    alias: {
      'gptvq/model': join(root, 'src/browser/model.ts'),
      'gptvq/generate': join(root, 'src/browser/generate.ts'),
      'gptvq/report': join(root, 'src/report.ts'),
      gptvq: join(root, 'src/index.ts'),
    },
    bundle: true,
    platform: 'browser',
    conditions: ['browser', 'import'],
    format: 'esm',
    target: 'es2022',
    minify: true,
    logLevel: 'warning',
  })
  for (const file of ['index.html', 'style.css']) await cp(join(web, 'page', file), join(folder, file))
  for (const file of modelFiles) await cp(join(model, file), join(folder, 'model', file))
}
