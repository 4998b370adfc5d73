import { realpath } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { OptionError } from '../../common/errors.js'

/**
 * Checks that writing `output` cannot replace the model that is being read, links followed.
 *
 * @throws OptionError when `output` is the model's folder or contains it
 */
export async function requireDistinctFolders(model: string, output: string): Promise<void> {
  if (await liesIn(output, model)) {
    throw new OptionError(
      'output',
      `${output} is the folder of the model ${model}, or contains it; choose another place, the model would be lost`,
    )
  }
}

/** Whether a path is a folder or lies in it, links followed; neither has to be there. */
export async function liesIn(folder: string, path: string): Promise<boolean> {
  const inside = relative(await realFolder(folder), await realFolder(path))
  return inside === '' || (inside !== '..' && !inside.startsWith(`..${sep}`) && resolve(inside) !== inside)
}

/** The path without links; what does not exist yet is looked up as far as it does. */
async function realFolder(path: string): Promise<string> {
  const whole = resolve(path)
  try {
    return await realpath(whole)
  } catch {
    const parent = dirname(whole)
    return parent === whole ? whole : join(await realFolder(parent), relative(parent, whole))
  }
}
