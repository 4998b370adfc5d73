import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** Markdown files below a folder of the repository. */
function markdownIn(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
}

const guides = markdownIn('docs')
const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...guides, ...markdownIn('examples')]

/** A page without what only looks like links or headings: code, comments. */
function prose(text: string): string {
  return text
    .replace(/^( *)(`{3,}|~{3,})[^\n]*\n[\s\S]*?^\1\2`*~* *$/gm, '')
    .replace(/<!--[\s\S]*?-->/g, '')
    .replace(/(`+)(?!`)[^\n]*?[^`]\1(?!`)/g, 'code')
}

/** Where a page's links and pictures lead to. */
function linksOf(text: string): string[] {
  const patterns = [
    /\]\(\s*<?([^)\s>]+)>?(?:\s+["'(][^)]*)?\)/g,
    /^ {0,3}\[[^\]^]+\]:\s*<?([^\s>]+)/gm,
    /<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)="([^"]+)"/g,
  ]
  return patterns.flatMap((pattern) => Array.from(prose(text).matchAll(pattern), ([, target]) => target))
}

/** The names of a page's headings as code hosts make them: lower case, hyphens, a number where one comes again. */
function anchorsOf(text: string): Set<string> {
  const anchors = new Set<string>()
  const plain = text.replace(/^( *)(`{3,}|~{3,})[^\n]*\n[\s\S]*?^\1\2`*~* *$/gm, '')
  for (const [, heading] of plain.matchAll(/^#{1,6} +(.+?)(?: +#+)? *$/gm)) {
    const name = heading
      .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
      .replaceAll(' ', '-')
    let anchor = name
    for (let again = 1; anchors.has(anchor); again++) anchor = `${name}-${again}`
    anchors.add(anchor)
  }
  for (const [, id] of plain.matchAll(/<[a-z]+\b[^>]*?\b(?:id|name)="([^"]+)"/g)) anchors.add(id)
  return anchors
}

/** What is wrong with a link, undefined for a sound one or one that leaves the repository. */
function faultOf(page: string, link: string): string | undefined {
  if (/^(https?:|mailto:)/.test(link)) return undefined
  const [path, anchor] = link.split('#', 2).map(decodeURIComponent)
  const target = path === '' ? join(root, page) : resolve(root, dirname(page), path)
  if (relative(root, target).startsWith('..')) return `${link} leads out of the repository`
  if (!existsSync(target)) return `${link}: there is no ${relative(root, target)}`
  if (statSync(target).size === 0) return `${link}: ${relative(root, target)} is empty`
  if (anchor === undefined || anchor === '') return undefined
  if (!target.endsWith('.md')) return `${link}: only Markdown has headings`
  return anchorsOf(readFileSync(target, 'utf8')).has(anchor)
    ? undefined
    : `${link}: there is no heading #${anchor} in ${relative(root, target)}`
}

describe('links', () => {
  it.each(pages)('%s links to files and headings that exist', (page) => {
    const links = linksOf(readFileSync(join(root, page), 'utf8'))
    expect(links.map((link) => faultOf(page, link)).filter((fault) => fault !== undefined)).toEqual([])
  })

  it('every guide can be reached from the list of guides', () => {
    const listed = linksOf(readFileSync(join(root, 'docs/README.md'), 'utf8')).map(
      (link) => link.split('#')[0],
    )
    const missing = guides.filter(
      (guide) => guide !== 'docs/README.md' && !listed.includes(guide.slice('docs/'.length)),
    )
    expect(missing).toEqual([])
  })

  it('every picture of the guides is shown in one', () => {
    const shown = new Set(
      pages.flatMap((page) =>
        linksOf(readFileSync(join(root, page), 'utf8')).map((link) => resolve(root, dirname(page), link)),
      ),
    )
    const pictures = readdirSync(join(root, 'docs/pictures')).filter((name) => /\.(svg|png)$/.test(name))
    expect(pictures.filter((name) => !shown.has(join(root, 'docs/pictures', name)))).toEqual([])
  })

  it('rows of a table have as many cells as its head, so that none is cut off', () => {
    for (const page of pages) {
      const text = readFileSync(join(root, page), 'utf8').replace(
        /^( *)(`{3,})[^\n]*\n[\s\S]*?^\1\2 *$/gm,
        '',
      )
      for (const [table] of text.matchAll(/^\|.*\n\| *:?-.*\n(?:\|.*\n?)*/gm)) {
        const counts = table
          .trim()
          .split('\n')
          .map((row) => row.replaceAll('\\|', '').split('|').length)
        expect(new Set(counts).size, `${page}: ${table.slice(0, 80)}`).toBe(1)
      }
    }
  })
})

describe('the checks themselves', () => {
  it('find links of all kinds, also in tables, and none in code', () => {
    const text = [
      '| [a](a.md#x) | ![b](b.svg "title") |',
      '`[c](c.md)`, [`d`](d.md), <a href="e.md">e</a>, [f]',
      '```md\n[g](g.md)\n```',
      '[f]: f.md',
    ].join('\n')
    expect(linksOf(text).sort()).toEqual(['a.md#x', 'b.svg', 'd.md', 'e.md', 'f.md'])
  })

  it('name headings as code hosts do', () => {
    const text =
      '# `vectorDim` and bits\n## Bits: per value!\n## Bits per value\n```\n# no heading\n```\n## A [b](c.md) d'
    expect([...anchorsOf(text)]).toEqual([
      'vectordim-and-bits',
      'bits-per-value',
      'bits-per-value-1',
      'a-b-d',
    ])
  })

  it('see a missing file and a missing heading', () => {
    expect(faultOf('README.md', 'docs/nothing.md')).toContain('there is no docs')
    expect(faultOf('README.md', 'docs/settings.md#nothing')).toContain('no heading #nothing')
    expect(faultOf('docs/settings.md', '../../elsewhere.md')).toContain('out of the repository')
    expect(faultOf('docs/settings.md', '#bits-per-value')).toBeUndefined()
  })
})
