/** Little-endian numbers out of bytes, on machines of either byte order. */

const LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/**
 * @param {Uint32ArrayConstructor | Float32ArrayConstructor} type 4-byte numbers
 * @param {Uint8Array} bytes
 * @param {number} offset in bytes, a multiple of 4 within the underlying buffer
 * @param {number} [count] numbers; all that follow by default
 * @returns a view of the same memory where the machine allows it
 */
export function fromBytes(type, bytes, offset, count = (bytes.length - offset) >> 2) {
  if (!LITTLE) {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset + offset, count);
    for (let i = 0; i < count; i++) words[i] = view.getUint32(offset + 4 * i, true);
  }
  return new type(bytes.buffer, bytes.byteOffset + offset, count);
}
