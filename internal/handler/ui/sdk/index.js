export { WebsopyClient } from './client.js';
export { AbortError, APIError, ConnectionError, StreamError, StreamInterruptedError, TimeoutError, WebsopyError, } from './errors.js';
