import type { Section } from './section.js'

/**
 * The tokens that a `post_processor` puts in front of a text. What it puts behind one, and pairs of texts, are of no use
 * to a model that goes on writing.
 */
export function readLeadingIds(section: Section | undefined): number[] {
  if (section === undefined) return []
  const type = section.string('type')
  if (type === 'Sequence') return section.parts('processors').flatMap(readLeadingIds)
  if (type !== 'TemplateProcessing') return []
  const leading: number[] = []
  for (const piece of section.parts('single')) {
    const special = piece.part('SpecialToken')
    if (special === undefined) break
    leading.push(...idsOf(section, special.string('id')))
  }
  return leading
}

function idsOf(section: Section, name: string): number[] {
  const ids = section.part('special_tokens')?.part(name)?.raw('ids')
  if (Array.isArray(ids) && ids.every((id) => Number.isSafeInteger(id) && id >= 0)) return ids
  return section.fail('special_tokens', `the ids of ${JSON.stringify(name)}, which is in its template`)
}
