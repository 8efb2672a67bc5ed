// The relay with its provider as a process of its own, for tests in other languages: it tells where they are in one line
// of JSON, and ends with its input. The provider's /requests/MODEL lists what it was asked, and how many have left.
import { start } from "./world.mjs";

const world = await start();
console.log(JSON.stringify({ relay: world.url, provider: world.provider.url, key: world.key }));
process.stdin.resume().on("end", () => world.stop());
