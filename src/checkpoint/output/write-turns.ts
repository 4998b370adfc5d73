import { CheckpointError } from '../../common/errors.js'
import { reasonInWords, systemErrorCode } from '../file-errors.js'
import type { OutputFolder } from './output-folder.js'

/** The life of an output folder: steps carried out one after the other, until it is placed or discarded. */
export interface WriteTurns {
  /** @throws CheckpointError when the folder was placed, discarded, or a step failed */
  assertOpen(): void
  /** Runs `step` after all asked for before. When it fails, everything temporary is removed. */
  run<T>(step: () => Promise<T>): Promise<T>
  /** Runs `step` likewise, then puts the folder in its place. */
  finish<T>(step: () => Promise<T>): Promise<T>
  /** After the step now running, removes everything temporary, unless the folder is in its place. */
  discard(): Promise<void>
}

/**
 * @param folder how errors name the output
 * @param closeFiles closes the files open in it, which some systems ask for before they can be removed
 */
export function takeTurns(folder: string, output: OutputFolder, closeFiles: () => Promise<void>): WriteTurns {
  let ended: string | undefined
  let placed = false
  let last: Promise<unknown> = Promise.resolve()

  const assertOpen = () => {
    if (ended !== undefined) throw new CheckpointError(`${folder}: ${ended}; begin again with a new writer`)
  }
  const inTurn = <T>(step: () => Promise<T>): Promise<T> => {
    const turn = last.then(step)
    last = turn.catch(() => {})
    return turn
  }
  const removeAll = async () => {
    try {
      await closeFiles()
    } finally {
      await output.discard()
    }
  }
  const fail = async (error: unknown): Promise<never> => {
    ended ??= `writing it failed before (${reasonInWords(error)})`
    let remains = 'Nothing of it is left behind; make room or choose another output'
    try {
      await removeAll()
    } catch (second) {
      remains = `Its temporary folder ${output.partial} could not be removed (${reasonInWords(second)})`
    }
    if (systemErrorCode(error) === undefined) throw error
    throw new CheckpointError(`cannot write ${folder}: ${reasonInWords(error)}. ${remains}`, { cause: error })
  }
  const run = <T>(step: () => Promise<T>): Promise<T> =>
    inTurn(async () => {
      assertOpen()
      return step().catch(fail)
    })

  return {
    assertOpen,
    run,
    finish: (step) =>
      run(async () => {
        const result = await step()
        // discarding may have been asked for meanwhile
        assertOpen()
        await output.place()
        placed = true
        ended = 'it is already finished'
        return result
      }),
    discard() {
      ended ??= 'it was discarded'
      return inTurn(async () => {
        if (placed) return
        try {
          await removeAll()
        } catch (error) {
          throw new CheckpointError(
            `the temporary folder ${output.partial} could not be removed: ${reasonInWords(error)}. Remove it yourself`,
            { cause: error },
          )
        }
      })
    },
  }
}
