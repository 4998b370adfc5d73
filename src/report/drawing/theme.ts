/** How one of several series is told apart: by colour, and by symbol and dash for those who see or print none. */
export interface SeriesStyle {
  /** A colour by the name of its CSS variable, so that it follows the light or dark scheme. */
  readonly color: string
  readonly symbol: 'circle' | 'square2' | 'triangle' | 'diamond2' | 'times' | 'plus' | 'star' | 'wye'
  /** A `stroke-dasharray`, `'none'` for a solid line. */
  readonly dash: string
}

/** Colours by role, each for light and for dark. Any two series differ for colour-blind readers too, as a test checks. */
export const schemes = {
  light: {
    paper: '#ffffff',
    ink: '#1f2328',
    muted: '#59636e',
    line: '#d0d7de',
    density: '#4f6f8f',
    front: '#c9a400',
    series: ['#0d69ca', '#f07803', '#0d9f79', '#9d427b', '#986f2d', '#21a8ed', '#7b7eab', '#671e2f'],
    heat: ['#f3f6fa', '#d3e2f0', '#a9cbe6', '#75add6', '#4288bd', '#20639c', '#0b3f73'],
    heatInk: ['#1f2328', '#1f2328', '#1f2328', '#1f2328', '#ffffff', '#ffffff', '#ffffff'],
  },
  dark: {
    paper: '#0d1117',
    ink: '#e6edf3',
    muted: '#9aa4ae',
    line: '#30363d',
    density: '#8fb0d0',
    front: '#e3c341',
    series: ['#3687c8', '#fe863f', '#37c285', '#ce8fec', '#e9c553', '#a9ddfb', '#9092a1', '#ff9eba'],
    heat: ['#161d27', '#1b3450', '#1f4d78', '#2b6ba3', '#4590cb', '#7fb9e6', '#c4e1f8'],
    heatInk: ['#e6edf3', '#e6edf3', '#e6edf3', '#e6edf3', '#0d1117', '#0d1117', '#0d1117'],
  },
} as const

type Scheme = (typeof schemes)['light' | 'dark']

/** Steps of the colour scale of a heat map. */
export const HEAT_STEPS = schemes.light.heat.length

const symbols = ['circle', 'square2', 'triangle', 'diamond2', 'times', 'plus', 'star', 'wye'] as const
const dashes = ['none', '7 3', '2 3', '8 3 2 3', '12 4', '4 2', '1 4', '10 3 2 3 2 3'] as const

/** The style of series `index`; after eight they come again. */
export function seriesStyle(index: number): SeriesStyle {
  const i = index % symbols.length
  return { color: `var(--series-${i + 1})`, symbol: symbols[i], dash: dashes[i] }
}

/** The declarations of all colour variables of a scheme. */
export function schemeVariables(scheme: Scheme): string {
  const { series, heat, heatInk, ...roles } = scheme
  const declarations = Object.entries(roles).map(([role, color]) => `--${role}:${color}`)
  for (const [i, color] of series.entries()) declarations.push(`--series-${i + 1}:${color}`)
  for (const [i, color] of heat.entries()) declarations.push(`--heat-${i + 1}:${color}`)
  for (const [i, color] of heatInk.entries()) declarations.push(`--heat-ink-${i + 1}:${color}`)
  return declarations.join(';')
}

/** Style rules that give `selector` the colours that suit the reader: light, dark when asked for, light on paper. */
export function schemeRules(selector: string): string {
  const light = `${selector}{${schemeVariables(schemes.light)}}`
  return `${light}@media(prefers-color-scheme:dark){${selector}{${schemeVariables(schemes.dark)}}}@media print{${light}}`
}
