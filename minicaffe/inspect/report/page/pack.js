// Arrays: a reference {pack, offset, dtype, shape, lo, hi} -> numbers. A pack is decoded when it is first asked
// for.
const Pack = (() => {
  const packs = new Map();
  const arrays = new Map();

  async function decode(number) {
    const text = document.getElementById("pack-" + number).textContent;
    const raw = Uint8Array.fromBase64
      ? Uint8Array.fromBase64(text)
      : Uint8Array.from(atob(text), c => c.charCodeAt(0));
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }

  function buffer(number) {
    if (!packs.has(number)) packs.set(number, decode(number));
    return packs.get(number);
  }

  const count = ref => ref.shape.reduce((a, b) => a * b, 1);

  // half[h >> 10] and the mantissa: float16 by arithmetic
  function half(h) {
    const sign = h & 0x8000 ? -1 : 1;
    const e = (h >> 10) & 31;
    const m = h & 1023;
    return sign * (e ? (e === 31 ? (m ? NaN : Infinity) : 2 ** (e - 15) * (1 + m / 1024)) : 2 ** -24 * m);
  }
  let halves = null;
  const table = () => halves || (halves = Float32Array.from({length: 65536}, (_, h) => half(h)));

  async function bytes(ref) {
    return new Uint8Array(await buffer(ref.pack), ref.offset, count(ref));
  }

  async function make(ref) {
    const data = await buffer(ref.pack);
    const n = count(ref);
    if (ref.dtype === "f32") return new Float32Array(data, ref.offset, n);
    if (ref.dtype === "f16") {
      const codes = new Uint16Array(data, ref.offset, n);
      const t = table();
      return Float32Array.from(codes, h => t[h]);
    }
    const step = (ref.hi - ref.lo) / 255;
    return Float32Array.from(new Uint8Array(data, ref.offset, n), code => ref.lo + code * step);
  }

  // The numbers of an array, as Float32Array; decoded once.
  function array(ref) {
    const key = ref.pack + ":" + ref.offset;
    if (!arrays.has(key)) arrays.set(key, make(ref));
    return arrays.get(key);
  }
  return {array, bytes, count};
})();
