/** Bytes that can be read from any position: a file, or in tests an array. */
export interface ByteSource {
  /** How errors name it. */
  readonly path: string
  /** Bytes in all, as found when it was opened. */
  readonly size: number
  /** Exactly `length` bytes from `position`, in an array of their own. */
  readAt(position: number, length: number): Promise<Uint8Array>
}
