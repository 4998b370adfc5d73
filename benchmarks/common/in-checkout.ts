import { execFile } from 'node:child_process'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'

/**
 * Runs a program in a process of its own, with `quantizeModel` of a checkout of this package, which is built.
 *
 * @returns the last line that it prints
 */
export async function lastLineIn(checkout: string, program: string): Promise<string> {
  const library = pathToFileURL(join(resolve(checkout), 'dist/model.js')).href
  const running = promisify(execFile)(process.execPath, ['--input-type=module', '-'])
  // by the standard input: an argument has no room for many tokens
  running.child.stdin!.end(`import { quantizeModel } from ${JSON.stringify(library)}\n${program}`)
  const { stdout } = await running
  return stdout.trim().split('\n').at(-1)!
}
