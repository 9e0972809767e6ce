// A zip archive of files that need no compression. Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.16.

/** Downloads files as one archive; each is a name and a data URL. */
export function saveZip(files, name) {
  const archive = zip(files.map(([file, url]) => [file, bytesOf(url)]));
  Object.assign(document.createElement("a"), { href: URL.createObjectURL(archive), download: name }).click();
}

const bytesOf = (url) => Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (byte) => byte.charCodeAt(0));

/** The archive of files, each a name and its bytes. */
function zip(files) {
  const [parts, directory] = [[], []];
  let offset = 0;
  for (const [file, bytes] of files) {
    const name = new TextEncoder().encode(file);
    const size = [4, bytes.length];
    // Version 2.0, name in UTF-8, stored, midnight of 1 January 1980, no extra field.
    const head = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 0x21], [4, crc32(bytes)], size, size, [2, name.length], [2, 0]];
    const local = record([4, 0x04034b50], ...head);
    parts.push(local, name, bytes);
    directory.push(record([4, 0x02014b50], [2, 20], ...head, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), name);
    offset += local.length + name.length + bytes.length;
  }
  const [length, count] = [directory.reduce((sum, part) => sum + part.length, 0), [2, files.length]];
  const end = record([4, 0x06054b50], [2, 0], [2, 0], count, count, [4, length], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Numbers, least byte first, each with its size in bytes. */
function record(...fields) {
  return Uint8Array.from(fields.flatMap(([size, value]) => Array.from({ length: size }, (_, n) => value >>> (8 * n))));
}

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
