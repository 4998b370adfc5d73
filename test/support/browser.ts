import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { type Browser, chromium } from 'playwright-core'

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome.exe']

/** The first Chromium on the PATH. */
export const chromiumPath: string | undefined = (process.env.PATH ?? '')
  .split(delimiter)
  .flatMap((folder) => names.map((name) => join(folder, name)))
  .find(isProgram)

/**
 * Whether tests in a browser are to be left out: on a machine without Chromium, but never in CI, where they fail
 * instead.
 */
export const withoutBrowser = chromiumPath === undefined && !process.env.CI

if (withoutBrowser) {
  console.warn('No chromium on the PATH: tests in a browser are skipped. Debian: apt-get install chromium')
}

/** Starts a headless Chromium. */
export function startBrowser(): Promise<Browser> {
  if (chromiumPath === undefined) throw new Error('no chromium on the PATH; .ci/run installs it')
  return chromium.launch({ executablePath: chromiumPath })
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
