// @vitest-environment jsdom
import { expect, test } from 'vitest'
import { showMarkdown } from '../../internal/handler/ui/markdown.js'

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
