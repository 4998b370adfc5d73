// Equations of the guides as MathML, which browsers show without script or fonts of their own. Knows the TeX that the
// guides use and refuses all else, so that an equation is never shown wrong.

/** Commands and the signs they stand for, by what kind of element these are. */
const letters =
  'alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ iota ι kappa κ lambda λ mu μ nu ν xi ξ ' +
  'pi π rho ρ sigma σ tau τ phi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Phi Φ Psi Ψ ' +
  'Omega Ω ell ℓ infty ∞ partial ∂ nabla ∇'
const operators =
  'sum ∑ prod ∏ cdot · times × pm ± div ÷ approx ≈ equiv ≡ sim ∼ propto ∝ in ∈ notin ∉ le ≤ leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ ' +
  'll ≪ gg ≫ leftarrow ← gets ← rightarrow → to → mapsto ↦ ldots … cdots ⋯ dots … mid ∣ top ⊤ circ ∘ odot ⊙ otimes ⊗'
const brackets =
  'lVert ‖ rVert ‖ Vert ‖ | ‖ lvert | rvert | lceil ⌈ rceil ⌉ lfloor ⌊ rfloor ⌋ langle ⟨ rangle ⟩ lbrace { rbrace } { { } }'
const words = 'log ln exp min max arg argmin argmax det'

const pairs = (list) => Array.from(list.matchAll(/(\S+) (\S+)/g), ([, name, sign]) => [name, sign])
const signs = new Map([
  ...pairs(letters).map(([name, sign]) => [name, ['mi', sign]]),
  ...pairs(operators).map(([name, sign]) => [name, ['mo', sign]]),
  ...pairs(brackets).map(([name, sign]) => [name, ['bracket', sign]]),
  ...words.split(' ').map((word) => [word, ['mi', word]]),
])

/** Widths of spaces, in em. */
const spaces = new Map([
  [',', 0.17],
  [';', 0.28],
  [' ', 0.25],
  ['quad', 1],
  ['qquad', 2],
])

/** Commands that only size the bracket after them. */
const sizes = new Set(['left', 'right', 'big', 'Big', 'bigl', 'bigr', 'Bigl', 'Bigr'])

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;' }

const element = (name, content) => `<${name}>${content}</${name}>`
/** Stretched brackets look well only with a font for mathematics, which few systems have. */
const bracket = (sign) => `<mo stretchy="false">${sign}</mo>`
const text = (content) => content.replace(/[&<>]/g, (sign) => escapes[sign])

/** TeX as a MathML element. @throws Error for TeX that it does not know */
export function texToMathml(tex, display = false) {
  const tokens = tex.match(/\\(?:[a-zA-Z]+|.)|\d+(?:\.\d+)?|\s+|./gsu) ?? []
  let at = 0
  const fail = (what) => {
    throw new Error(
      `the equation "${tex.trim()}" has ${what}; add it to scripts/tex-to-mathml.mjs or write it otherwise`,
    )
  }
  const skipBlanks = () => {
    while (at < tokens.length && /^\s/.test(tokens[at])) at++
  }

  /** All up to the token `end`, undefined: to the end of the equation. */
  function sequence(end) {
    const parts = []
    for (skipBlanks(); tokens[at] !== end; skipBlanks()) {
      if (at >= tokens.length) fail(`no closing ${end}`)
      parts.push(scripted())
    }
    at++
    return element('mrow', parts.join(''))
  }

  /** An atom with what stands above and below it. */
  function scripted() {
    const isSum = tokens[at] === '\\sum' || tokens[at] === '\\min'
    const base = atom()
    const scripts = {}
    for (skipBlanks(); tokens[at] === '_' || tokens[at] === '^'; skipBlanks()) {
      const place = tokens[at++]
      if (scripts[place] !== undefined) fail(`two ${place} on one symbol`)
      scripts[place] = atom()
    }
    const { _: below, '^': above } = scripts
    const [sub, sup, both] =
      isSum && display ? ['munder', 'mover', 'munderover'] : ['msub', 'msup', 'msubsup']
    if (below !== undefined && above !== undefined) return element(both, base + below + above)
    if (below !== undefined) return element(sub, base + below)
    return above !== undefined ? element(sup, base + above) : base
  }

  function atom() {
    skipBlanks()
    const token = tokens[at++]
    if (token === undefined) fail('nothing where a symbol must be')
    if (token === '{') return sequence('}')
    if (token.startsWith('\\')) return command(token.slice(1))
    if (/^\d/.test(token)) return element('mn', token)
    if (/^\p{L}/u.test(token)) return element('mi', token)
    if (/^[()[\]|]$/.test(token)) return bracket(token)
    if (/^[-+*/=<>,.:;!']$/.test(token)) return element('mo', text(token === '-' ? '−' : token))
    return fail(`an unexpected ${token}`)
  }

  function command(name) {
    if (signs.has(name)) {
      const [kind, sign] = signs.get(name)
      return kind === 'bracket' ? bracket(sign) : element(kind, sign)
    }
    if (spaces.has(name)) return `<mspace width="${spaces.get(name)}em"></mspace>`
    if (sizes.has(name)) return atom()
    if (name === 'frac') return element('mfrac', atom() + atom())
    if (name === 'mathrm' || name === 'text') return element(name === 'text' ? 'mtext' : 'mi', upright(name))
    return fail(`\\${name}, which is not known`)
  }

  /** The braces after a command, taken as text. */
  function upright(name) {
    if (tokens[at] !== '{') fail(`no { after \\${name}`)
    const end = tokens.indexOf('}', at)
    if (end < 0) fail('no closing }')
    const content = tokens.slice(at + 1, end).join('')
    at = end + 1
    if (!/^[\p{L}\d ().,-]*$/u.test(content)) fail(`{${content}} after \\${name}`)
    return content
  }

  const content = sequence(undefined)
  return display
    ? `<div style="overflow-x:auto"><math display="block">${content}</math></div>`
    : `<math>${content}</math>`
}

/** A markdown-it plugin: `$...$` in a line and code fences of the language `math`, as code hosts have them. */
export function mathPlugin(parser) {
  parser.inline.ruler.after('escape', 'math', (state, silent) => {
    const { src, pos } = state
    // as on code hosts: no blank inside the dollars, no digit after them
    const found = /^\$(?![\s$])([^$\n]*[^$\s])\$(?!\d)/.exec(src.slice(pos))
    if (found === null) return false
    if (!silent) state.push('math', 'math', 0).content = found[1]
    state.pos += found[0].length
    return true
  })
  parser.renderer.rules.math = (tokens, i) => texToMathml(tokens[i].content)
  const { fence } = parser.renderer.rules
  parser.renderer.rules.fence = (tokens, i, ...rest) =>
    tokens[i].info.trim() === 'math' ? texToMathml(tokens[i].content, true) : fence(tokens, i, ...rest)
}
