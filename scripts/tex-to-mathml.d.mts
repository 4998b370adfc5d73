export function texToMathml(tex: string, display?: boolean): string
export function mathPlugin(parser: object): void
