/** Runs `work` again and again with pauses between; what it throws is left to the next time. */
export function repeat(milliseconds: number, work: () => Promise<void>): () => void {
  let timer: NodeJS.Timeout | undefined
  let ended = false
  const next = () => {
    timer = setTimeout(async () => {
      await work().catch(() => {})
      if (!ended) next()
    }, milliseconds)
  }
  next()
  return () => {
    ended = true
    clearTimeout(timer)
  }
}
