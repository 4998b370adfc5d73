/** What the notebooks use of tslab, which is not installed with this package. */
declare module 'tslab' {
  /** Shows rich content below a cell. */
  export const display: {
    html(markup: string): void
    svg(picture: string): void
  }
}
