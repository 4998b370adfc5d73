/** The method that a quantized folder was trained by after it was quantized, by its settings; undefined where it was not. */
export function trainedBy({ training }: Readonly<Record<string, unknown>>): string | undefined {
  if (typeof training !== 'object' || training === null || !('method' in training)) return undefined
  return String(training.method)
}
