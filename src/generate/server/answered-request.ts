/** A request that was answered. */
export interface AnsweredRequest {
  /** `GET` or `POST`. */
  readonly method: string
  /** Path without what follows a question mark. */
  readonly path: string
  /** Status of the response; 499 where the client went away before it. */
  readonly status: number
  /** From its headers to the end of the response. */
  readonly seconds: number
  /** Tokens of its prompts. */
  readonly promptTokens: number
  /** Tokens that were written for it. */
  readonly completionTokens: number
  /** What went wrong, where the server is to blame. */
  readonly error?: unknown
}
