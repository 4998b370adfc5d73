import { DOMParser } from 'linkedom'
import { expect } from 'vitest'

/** What the tests use of a parsed element. */
export interface ParsedElement {
  readonly tagName: string
  readonly textContent: string
  readonly attributes: Iterable<{ name: string; value: string }>
  getAttribute(name: string): string | null
  querySelector(selector: string): ParsedElement | null
  querySelectorAll(selector: string): ArrayLike<ParsedElement> & Iterable<ParsedElement>
}

/** Parses a picture after checking that it is one: well-formed, named, and without a broken number. */
export function parsePicture(svg: string): ParsedElement {
  expectWellFormed(svg)
  const document = new DOMParser().parseFromString(svg, 'image/svg+xml')
  const root: ParsedElement | null = document.querySelector('svg')
  if (root === null) throw new Error('holds no svg')
  expect(root.getAttribute('xmlns')).toBe('http://www.w3.org/2000/svg')
  expect(root.getAttribute('role')).toBe('img')
  const title = root.querySelector('title')?.textContent ?? ''
  expect(title).not.toBe('')
  expect(decoded(root.getAttribute('aria-label') ?? '').slice(0, title.length)).toBe(title)
  expectWholeNumbers(root)
  return root
}

/** The parser leaves the entities of attributes as they are. */
export function decoded(attribute: string): string {
  return attribute.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&')
}

/** No attribute of any element holds what is left of a number that was none. */
export function expectWholeNumbers(root: ParsedElement): void {
  for (const element of root.querySelectorAll('*')) {
    for (const { name, value } of element.attributes) {
      if (/NaN|Infinity|undefined|null/.test(value)) {
        throw new Error(`${element.tagName} ${name}="${value.slice(0, 80)}"`)
      }
    }
  }
}

/** How many elements of a kind a set of marks has. */
export function countMarks(picture: ParsedElement, marks: string, element: string): number {
  return picture.querySelectorAll(`.gptvq-${marks} ${element}`).length
}

/** All texts of a picture. */
export function textsOf(picture: ParsedElement): string[] {
  return [...picture.querySelectorAll('text')].map(({ textContent }) => textContent)
}

/** Checks that tags are balanced, attributes quoted, and no bare `&` or `<` stands in the text. */
export function expectWellFormed(xml: string): void {
  const open: string[] = []
  const token = /<(\/?)([A-Za-z][\w-]*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>|([^<]+)/gy
  let end = 0
  for (let match = token.exec(xml); match !== null; match = token.exec(xml)) {
    const [, closing, name, attributes = '', empty, text = ''] = match
    const loose = (attributes + text).replace(/&(amp|lt|gt|quot|apos|#\d+|#x[\da-f]+);/gi, '')
    if (loose.includes('&')) throw new Error(`bare & in ${match[0].slice(0, 80)}`)
    if (closing && open.pop() !== name) throw new Error(`</${name}> closes another element`)
    if (name && !closing && !empty) open.push(name)
    end = token.lastIndex
  }
  expect({ end, open }).toEqual({ end: xml.length, open: [] })
}

/** A name that would break out of any markup. */
export const hostileName = `model.layers.0.</title><script>alert("x")</script>&amp;'\u0000\ud800`
