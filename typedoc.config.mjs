import { readFileSync } from 'node:fs'
import { mathPlugin } from './scripts/tex-to-mathml.mjs'

// the guides in the order of their list
const listed = Array.from(
  readFileSync(new URL('docs/README.md', import.meta.url), 'utf8').matchAll(/\]\(([\w-]+\.md)\)/g),
  ([, file]) => `docs/${file}`,
)
const guides = ['docs/README.md', ...new Set(listed), 'examples/notebooks/README.md']

/** @type {Partial<import('typedoc').TypeDocOptions>} */
export default {
  name: 'gptvq',
  entryPoints: [
    'src/index.ts',
    'src/model.ts',
    'src/generate.ts',
    'src/report.ts',
    'src/export.ts',
    'src/train.ts',
  ],
  tsconfig: 'tsconfig.build.json',
  out: 'out/site',
  readme: 'README.md',
  projectDocuments: guides,
  plugin: ['./scripts/typedoc-titles.mjs'],
  sort: ['kind', 'instance-first', 'alphabetical-ignoring-documents'],
  customCss: 'docs/site.css',
  disableSources: true,
  markdownItLoader: mathPlugin,
  highlightLanguages: ['ts', 'js', 'json', 'sh', 'python'],
  ignoredHighlightLanguages: ['math'],
  requiredToBeDocumented: [
    ...['Class', 'Interface', 'TypeAlias', 'Variable', 'Function'],
    ...['Property', 'Method', 'Accessor'],
  ],
  // lists that a type is made of; its docstring says what is in them
  intentionallyNotExported: [
    'src/packing/block-scales.ts:scaleBlockSizes',
    'src/checkpoint/dtype.ts:ELEMENT_BYTES',
  ],
  // links to folders of the repository work where it is read; all links are checked by test/docs/links.test.ts
  validation: { notExported: true, invalidLink: true, invalidPath: false, notDocumented: true },
  treatWarningsAsErrors: true,
}
