/** An array type over memory. */
export interface TypedArray<T> {
  readonly BYTES_PER_ELEMENT: number
  new (buffer: ArrayBufferLike, at: number, length: number): T
}

/** Takes room for an array of `length` elements; what it holds is not specified. */
export type Room = <T>(Kind: TypedArray<T>, length: number) => T
