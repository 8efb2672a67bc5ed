import { useStreamingChat } from '@websopy/sdk/react'
import { useState } from 'react'

export function Chat() {
  const { messages, streaming, currentContent, error, sendMessage, regenerate, stop } = useStreamingChat()
  const [input, setInput] = useState('')

  return (
    <form
      onSubmit={(event) => {
        event.preventDefault()
        sendMessage(input)
        setInput('')
      }}
    >
      {messages.map((message, i) => (
        <p key={i}>
          <b>{message.role}:</b> {message.content}
        </p>
      ))}
      {streaming && (
        <p>
          <b>assistant:</b> {currentContent}
        </p>
      )}
      {error && (
        <p role="alert">
          {error.message}{' '}
          <button type="button" onClick={regenerate}>
            Try again
          </button>
        </p>
      )}
      <input aria-label="Message" value={input} onChange={(event) => setInput(event.target.value)} />
      {streaming ? (
        <button type="button" onClick={stop}>
          Stop
        </button>
      ) : (
        <button>Send</button>
      )}
    </form>
  )
}
