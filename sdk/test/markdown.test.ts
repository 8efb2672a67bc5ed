// @vitest-environment jsdom
import { expect, test } from 'vitest'
import { showMarkdown } from '../../internal/ui/page/markdown.js'

function html(...texts: string[]): string {
  const root = document.createElement('div')
  for (const text of texts) showMarkdown(root, text)
  return root.innerHTML
}

test.each([
  ['paragraphs', 'a\nb\n\nc', '<p>a\nb</p><p>c</p>'],
  ['headings of any level', '# a\n### b\nc', '<h3>a</h3><h3>b</h3><p>c</p>'],
  ['a list right below its introduction', 'Two:\n- a\n- b', '<p>Two:</p><ul><li>a</li><li>b</li></ul>'],
  ['a list that does not begin at 1', '3. a\n4. b\n   more', '<ol start="3"><li>a</li><li>b\nmore</li></ol>'],
  ['a quote', '> a\n> b', '<blockquote>a\nb</blockquote>'],
  ['code, with blank lines', '```js\na\n\nb\n```\nc', '<pre tabindex="0"><code>a\n\nb</code></pre><p>c</p>'],
  ['code that is still being written', '```\na', '<pre tabindex="0"><code>a</code></pre>'],
  ['marks within a line', '**a** *b* `**c**`', '<p><strong>a</strong> <em>b</em> <code>**c**</code></p>'],
  ['stars that are no marks', '2 * 3 * 4', '<p>2 * 3 * 4</p>'],
  ['markup', '<b onclick=x>&amp;', '<p>&lt;b onclick=x&gt;&amp;amp;</p>'],
  ['a link that is none', '[a](javascript:x)', '<p>[a](javascript:x)</p>'],
  [
    'a link',
    '[a](https://b.c)',
    '<p><a href="https://b.c" rel="noopener noreferrer" target="_blank">a</a></p>',
  ],
])('shows %s', (_, text, expected) => {
  expect(html(text)).toBe(expected)
})

test('a text that grows ends up as the whole text does, and its finished blocks stay', () => {
  const text = '# a\nb **c**\n\n1. d\n2. `e`\n\n```js\nf\n\ng\n```\n\n> h\n\ni'
  const prefixes = Array.from(text, (_, i) => text.slice(0, i + 1))
  expect(html(...prefixes)).toBe(html(text))

  const root = document.createElement('div')
  showMarkdown(root, 'a\n\nb')
  const first = root.firstElementChild
  showMarkdown(root, 'a\n\nb c')
  expect(root.firstElementChild).toBe(first)
  showMarkdown(root, 'x')
  expect(root.innerHTML).toBe('<p>x</p>')
})

test.each([
  ['a link that never ends', '[a](https://b'.repeat(20_000)],
  ['links that end', '[a](https://b.c)'.repeat(4000)],
  ['open brackets', '['.repeat(200_000)],
  ['stars', '*a'.repeat(20_000)],
  ['stars in pairs', '**a '.repeat(50_000)],
  ['backticks', '`'.repeat(200_001)],
  ['white space', `${' '.repeat(200_000)}x`],
  ['lists', '- a\n'.repeat(5000)],
])(
  '%s are shown in a time that is linear',
  (_, text) => {
    const time = (size: number) => {
      const began = process.cpuUsage()
      html(text.slice(0, size))
      const { user, system } = process.cpuUsage(began)
      return (user + system) / 1000
    }
    time(text.length)
    const [quarter, all] = [time(text.length / 4), time(text.length)]
    // In milliseconds of the processor. Four times the text may take four times the time, and more when the collector
    // comes between; sixteen would be quadratic.
    expect(all).toBeLessThan(Math.max(10 * quarter, 1000))
  },
  60_000,
)

test('an address without measure is no link', () => {
  expect(html(`[a](https://b.c/${'x'.repeat(3000)})`)).not.toContain('href')
  expect(html(`[a](https://b.c/${'x'.repeat(1000)})`)).toContain('href')
})

test('long code grows in place', () => {
  const root = document.createElement('div')
  showMarkdown(root, '```\na')
  const node = root.querySelector('code')!.firstChild
  showMarkdown(root, '```\nab\n\nc')
  expect(root.querySelector('code')!.firstChild).toBe(node)
  showMarkdown(root, '```\nab\n\nc\n```\n\nend')
  expect(root.innerHTML).toBe('<pre tabindex="0"><code>ab\n\nc</code></pre><p>end</p>')
})

test('code of any length is shown whole, however it comes', () => {
  const code = Array.from({ length: 1000 }, (_, i) => `line ${i}`).join('\n')
  const root = document.createElement('div')
  for (let end = 1; end < code.length + 4; end += 997) showMarkdown(root, `\`\`\`\n${code}`.slice(0, end))
  showMarkdown(root, `\`\`\`\n${code}\n\`\`\``)
  expect(root.textContent).toBe(code)
  expect(root.querySelectorAll('code > span').length).toBeGreaterThan(1)
  expect(html(`\`\`\`\n${code}\n\`\`\``)).toContain('<span>line 0\n')
})
