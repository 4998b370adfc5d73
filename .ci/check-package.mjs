// Packs the package, installs the tarball into an empty folder and uses it there as a stranger would: imported in
// plain JavaScript, type-checked under both module resolutions, bundled for a browser, and from its command line.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'

const MOST_BYTES = 1e6
const MOST_READER_BYTES = 49152
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
const run = (command, args, cwd) =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

function fail(message) {
  throw new Error(`check-package: ${message}`)
}

const root = resolve(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '..')
const manifest = join(root, 'scripts', 'publish-manifest.mjs')
const folder = mkdtempSync(join(tmpdir(), 'gptvq-package-'))
try {
  run(process.execPath, [manifest, '--write'], root)
  const [packed] = JSON.parse(
    run(npm, ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], root),
  )
  run(process.execPath, [manifest, '--restore'], root)
  if (packed.size > MOST_BYTES) fail(`the tarball has ${packed.size} bytes, expected at most ${MOST_BYTES}`)
  const stray = packed.files.find(({ path }) => /safetensors$|^examples|^test|^src/.test(path))
  if (stray) fail(`the tarball holds ${stray.path}`)
  for (const needed of [
    'README.md',
    'LICENSE',
    'dist/index.js',
    'dist/model.d.ts',
    'dist/report.d.ts',
    'dist/generate.d.ts',
    'dist/export.d.ts',
    'dist/cli/main.js',
  ]) {
    if (!packed.files.some(({ path }) => path === needed)) fail(`the tarball lacks ${needed}`)
  }

  const app = join(folder, 'app')
  mkdirSync(app)
  writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }))
  run(npm, ['install', '--no-audit', '--no-fund', join(folder, packed.filename)], app)

  const installed = JSON.parse(readFileSync(join(app, 'node_modules', 'gptvq', 'package.json'), 'utf8'))
  if (installed.scripts) fail(`the published package.json has scripts: ${Object.keys(installed.scripts)}`)
  // Node 20.19 and 22.12 on
  if (process.features.require_module) {
    writeFileSync(
      join(app, 'use.cjs'),
      "console.log(require('gptvq').matrix(2, 2).rows, typeof require('gptvq/model').quantizeModel)",
    )
    if (run(process.execPath, ['use.cjs'], app).trim() !== '2 function') fail('require() does not work')
  }

  writeFileSync(
    join(app, 'use.ts'),
    `import { bitsPerValue, dequantizeLayer, HessianAccumulator, matrix, packLayer, quantizeLayer, type VqLayer } from 'gptvq'
import { evaluateModel, inspectModel, quantizeModel, startEngine } from 'gptvq/model'
import { type Generator, openGenerator, startServer } from 'gptvq/generate'
import { codebookGroup, codebookPlot, type ReportData, reportHtml } from 'gptvq/report'
const random = (rows: number, cols: number) =>
  matrix(rows, cols, Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i * i)))
const inputs = new HessianAccumulator(128)
inputs.add(random(256, 128))
const layer: VqLayer = await quantizeLayer(random(256, 128), inputs.hessian(), { bits: 2 })
const bits: number = bitsPerValue(packLayer(layer)).total
if (!(bits > 2 && bits <= 2.125) || dequantizeLayer(layer).rows !== 256) throw new Error(\`\${bits} bits\`)
if ((await startEngine('wasm')) !== 'wasm') throw new Error('no engine')
const open: (options: { model: string }) => Promise<Generator> = openGenerator
if ([evaluateModel, inspectModel, open, quantizeModel, startServer].some((f) => typeof f !== 'function')) throw new Error('exports')
if (!codebookPlot(codebookGroup(layer, 0)).startsWith('<svg')) throw new Error('no picture')
const data: ReportData = {
  model: 'app', method: 'gptvq', settings: {}, kept: { tensors: 0, bytes: 0 },
  layers: [{ name: 'layer', rows: 256, cols: 128, format: 'vq', bytes: 8448, bytesBefore: 131072, relativeError: null }],
}
if (!reportHtml(data).startsWith('<!doctype html>')) throw new Error('no report')
console.log('imported', bits)
`,
  )
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const compilerOptions = {
    strict: true,
    target: 'es2022',
    lib: ['es2022', 'dom'],
    types: [],
    outDir: 'build',
  }
  writeFileSync(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['use.ts'] }))
  const check = (module, resolution) =>
    run(process.execPath, [tsc, '-p', '.', '--module', module, '--moduleResolution', resolution], app)
  for (const [module, resolution] of [
    ['esnext', 'bundler'],
    ['node16', 'node16'],
  ]) {
    try {
      check(module, resolution)
    } catch (error) {
      fail(`types do not resolve under moduleResolution ${resolution}:\n${error.stdout}`)
    }
  }
  if (!run(process.execPath, ['build/use.js'], app).startsWith('imported')) fail('the import did not work')
  // a TypeScript project in CommonJS: types under both of its resolutions, and its require() where Node can
  const old = join(folder, 'old')
  mkdirSync(join(old, 'node_modules'), { recursive: true })
  symlinkSync(join(app, 'node_modules', 'gptvq'), join(old, 'node_modules', 'gptvq'), 'junction')
  writeFileSync(join(old, 'package.json'), JSON.stringify({ name: 'old', private: true, type: 'commonjs' }))
  writeFileSync(
    join(old, 'use.ts'),
    `import { matrix } from 'gptvq'
import { quantizeModel } from 'gptvq/model'
console.log('required', matrix(2, 3).cols, typeof quantizeModel)
`,
  )
  writeFileSync(join(old, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['use.ts'] }))
  for (const [module, resolution] of [
    ['nodenext', 'nodenext'],
    ['commonjs', 'node10'],
  ]) {
    try {
      run(process.execPath, [tsc, '-p', '.', '--module', module, '--moduleResolution', resolution], old)
    } catch (error) {
      fail(`types do not resolve in CommonJS under moduleResolution ${resolution}:\n${error.stdout}`)
    }
    if (
      process.features.require_module &&
      run(process.execPath, ['build/use.js'], old).trim() !== 'required 3 function'
    )
      fail(`a CommonJS build under ${resolution} does not run`)
  }
  const reader = "export { dequantizeLayer, unpackLayer } from 'gptvq'"
  const { outputFiles } = await build({
    stdin: { contents: reader, resolveDir: app },
    ...{ bundle: true, minify: true, write: false, platform: 'browser', format: 'esm' },
  })
  if (outputFiles[0].contents.length > MOST_READER_BYTES)
    fail(
      `a page that only reads layers loads ${outputFiles[0].contents.length} bytes, expected at most ${MOST_READER_BYTES}`,
    )
  const version = run(process.execPath, ['node_modules/gptvq/dist/cli/main.js', '--version'], app).trim()
  if (!version.includes(packed.version))
    fail(`the command line says version ${version}, expected ${packed.version}`)
  console.log(
    `package: ${packed.files.length} files, ${packed.size} bytes; imports, types, bundles and command line work`,
  )
} finally {
  run(process.execPath, [manifest, '--restore'], root)
  rmSync(folder, { recursive: true, force: true })
}
