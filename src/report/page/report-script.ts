/**
 * The script of a report: a click or a key on a column's head sorts the table by it, a second one the other way round.
 * Cells without a value stay last. Without the script the table stands in the order of the model.
 */
export const reportScript = `
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells]
  const body = table.tBodies[0]
  const collator = new Intl.Collator('en', { numeric: true })
  const compare = (a, b, numeric, sign) => {
    if (a === '' || b === '') return (a === '') - (b === '')
    return sign * (numeric ? Number(a) - Number(b) : collator.compare(a, b))
  }
  heads.forEach((head, column) => {
    head.querySelector('button').addEventListener('click', () => {
      const sign = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1
      for (const other of heads) other.setAttribute('aria-sort', 'none')
      head.setAttribute('aria-sort', sign === 1 ? 'ascending' : 'descending')
      const numeric = head.dataset.kind === 'number'
      const key = (row) => row.cells[column].dataset.value
      body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b), numeric, sign)))
    })
  })
}
`
