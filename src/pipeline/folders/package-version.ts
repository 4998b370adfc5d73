import { readFile } from 'node:fs/promises'

/** The version of this package; its `package.json` lies three folders up, in the sources as in `dist`. */
export async function packageVersion(): Promise<string> {
  const text = await readFile(new URL('../../../package.json', import.meta.url), 'utf8')
  const { version }: { version: string } = JSON.parse(text)
  return version
}
