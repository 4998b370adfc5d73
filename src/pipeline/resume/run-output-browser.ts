import { OptionError } from '../../common/errors.js'

/** What stands in a browser in the place of `run-output.ts`: a page sees no disk. @throws OptionError always */
export async function openRunOutput(folder: string): Promise<never> {
  throw new OptionError(
    'output',
    `found ${JSON.stringify(folder)}; a browser has no folders to write to: leave it out, and take the layers by onLayer`,
  )
}
