// Checks that the declarations of the built package can be read by the compiler in the folder given, an older one:
// `node .ci/check-old-types.mjs out/tslab @tslab/typescript-for-tslab`.
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'

const [folder, compiler] = process.argv.slice(2)
const ts = createRequire(join(resolve(folder), 'package.json'))(compiler)
const root = resolve(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '..')
const program = ts.createProgram(
  ['index', 'model', 'generate', 'report', 'export'].map((entry) => join(root, 'dist', `${entry}.d.ts`)),
  {
    strict: true,
    noEmit: true,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Node10,
    types: [],
  },
)
const found = ts.getPreEmitDiagnostics(program)
for (const { file, start, messageText } of found) {
  const where = file ? `${file.fileName}:${file.getLineAndCharacterOfPosition(start).line + 1}: ` : ''
  console.error(`${where}${ts.flattenDiagnosticMessageText(messageText, '\n')}`)
}
if (found.length > 0) process.exitCode = 1
else console.log(`types: ${program.getSourceFiles().length} files, readable by TypeScript ${ts.version}`)
