import { useEffect, useRef, useState, useSyncExternalStore } from 'react'
import { type ChatOptions, type ChatSnapshot, ChatStore } from './store.js'

export type { ChatOptions, ChatStatus, UIMessage } from './store.js'

export type UseStreamingChat = ChatSnapshot &
  Pick<ChatStore, 'sendMessage' | 'regenerate' | 'resume' | 'stop' | 'setMessages' | 'clearError'>

/**
 * A conversation that streams. The functions never change and never go stale. Options are read when
 * a message is sent, so they may change from render to render. Unmounting closes the connection.
 */
export function useStreamingChat(options: ChatOptions = {}): UseStreamingChat {
  const latest = useRef(options)
  const [store] = useState(() => new ChatStore(() => latest.current))
  useEffect(() => {
    latest.current = options
  })
  // Under StrictMode this also runs between two mounts of the same store, which stays usable.
  useEffect(() => store.dispose, [store])

  const snapshot = useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot)
  const { sendMessage, regenerate, resume, stop, setMessages, clearError } = store
  return { ...snapshot, sendMessage, regenerate, resume, stop, setMessages, clearError }
}
