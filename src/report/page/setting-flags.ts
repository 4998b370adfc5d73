/**
 * Settings of a quantized folder as the flags that ask for them, without their dashes: each a name and a value. Settings
 * that are not of a kind that a flag takes are left out.
 */
export function settingFlags(settings: Readonly<Record<string, unknown>>): (readonly [string, string])[] {
  return Object.entries(settings).flatMap(([option, value]) => {
    const name = option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    const values = Array.isArray(value) ? value : [value]
    return values.flatMap((one) => {
      const text = flagText(one)
      return text === undefined ? [] : [[name, text] as const]
    })
  })
}

function flagText(value: unknown): string | undefined {
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  if (typeof value !== 'object' || value === null || !('match' in value) || !('options' in value))
    return undefined
  const { match, options } = value
  if (typeof match !== 'string' || typeof options !== 'object' || options === null) return undefined
  return `${match}:${settingFlags(options as Record<string, unknown>)
    .map(([name, text]) => `${name}=${text}`)
    .join(',')}`
}
