import { nodeFileSystem } from '../../src/checkpoint/file-system.js'
import { claimUnfinished, type UnfinishedFolder } from '../../src/checkpoint/output/unfinished-folder.js'

// A process that claims the folder it is told of at the moment it is told of, and answers what came of it.

let held: UnfinishedFolder | undefined

process.on('message', async ({ output, at }: { output: string; at: number }) => {
  await held?.release()
  held = undefined
  while (Date.now() < at) {}
  const error = await claimUnfinished(nodeFileSystem, output).then(
    (folder) => {
      held = folder
    },
    (error: Error) => error.message,
  )
  process.send!({ error: error ?? null })
})
process.send!('ready')
