// The canvas of this browser tab, kept in the browser so that a reload loses nothing.
import { page, pages } from "../again.js";

const STORE = "canvas";
const MOST = 8; // browser tabs whose canvas is kept

function database() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open("lcm-studio", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

function done(asked) {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

// A browser that keeps nothing (a private window, a full disk) works as before.
export async function keep(state) {
  try {
    const name = await page();
    const store = (await database()).transaction(STORE, "readwrite").objectStore(STORE);
    await done(store.put({ ...state, at: Date.now() }, name));
    const keys = await done(store.getAllKeys());
    if (keys.length <= MOST) return;
    const all = await done(store.getAll());
    const old = keys.map((key, i) => [all[i].at, key]).sort((a, b) => a[0] - b[0]);
    for (const [, key] of old.slice(0, keys.length - MOST)) store.delete(key);
  } catch (error) {
    console.info("The canvas is not kept:", error);
  }
}

export async function forget() {
  try {
    const name = await page();
    await done((await database()).transaction(STORE, "readwrite").objectStore(STORE).delete(name));
  } catch (error) {
    console.info("The canvas is not forgotten:", error);
  }
}

export async function kept() {
  try {
    const [mine, origin] = await pages();
    const read = async (name) => done((await database()).transaction(STORE).objectStore(STORE).get(name));
    const state = await read(mine);
    if (state || !origin) return state || null;
    const copy = await read(origin);
    if (copy) keep(copy);
    return copy || null;
  } catch {
    return null;
  }
}
