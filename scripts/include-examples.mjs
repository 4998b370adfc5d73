// Puts the examples into the guides: the code between `<!-- include:examples/NAME.ts -->` and `<!-- /include -->` in
// docs/*.md becomes that of the file, less the comment that heads it. With --check it only says which guides are behind.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const INCLUDE = /<!-- include:(\S+) -->\n[\s\S]*?<!-- \/include -->/g
const HEAD_COMMENT = /^\/\*\*[\s\S]*?\*\/\s*/

/**
 * The text of a guide with the code of each include as `read` gives it.
 *
 * @param {string} text
 * @param {(file: string) => string} read
 */
export function includeExamples(text, read) {
  const starts = text.match(/<!-- include:/g)?.length ?? 0
  const included = text.replace(INCLUDE, (_, file) => {
    const code = read(file).replaceAll('\r\n', '\n').replace(HEAD_COMMENT, '').trimEnd()
    return `<!-- include:${file} -->\n\n\`\`\`ts\n${code}\n\`\`\`\n\n<!-- /include -->`
  })
  const ends = text.match(INCLUDE)?.length ?? 0
  if (starts !== ends)
    throw new Error(`found ${starts} includes, ${ends} of them with an end; close each of them`)
  return included
}

/** The guides of a repository, each with its text as it stands and as it should be. */
export function guides(root) {
  const folder = join(root, 'docs')
  return readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .map((name) => {
      const path = join(folder, name)
      const text = readFileSync(path, 'utf8').replaceAll('\r\n', '\n')
      const read = (file) => readFileSync(join(root, file), 'utf8')
      return { name: `docs/${name}`, path, text, current: includeExamples(text, read) }
    })
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const behind = guides(fileURLToPath(new URL('..', import.meta.url))).filter(
    ({ text, current }) => text !== current,
  )
  const check = process.argv.includes('--check')
  for (const { name, path, current } of behind) {
    if (!check) writeFileSync(path, current)
    console.log(
      check ? `${name} is behind its examples; run npm run docs:examples` : `${name} brought up to date`,
    )
  }
  if (check && behind.length > 0) process.exitCode = 1
}
