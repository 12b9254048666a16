// Plain numbers: eleven digits and Damm's check digit, shown in groups of four.

/** A totally anti-symmetric quasigroup of order ten (H. Michael Damm, 2004), the one of `core/proto`. */
const QUASIGROUP = [
  '0317598642',
  '7092154863',
  '4206871359',
  '1750983426',
  '6123045978',
  '3674209581',
  '5869720134',
  '8945362017',
  '9438617205',
  '2581436790',
].map((row) => Array.from(row, Number));

/** Digits before the check digit permit this many numbers. */
const COUNT = 100_000_000_000n;

/** The check digit of decimal digits; zero for digits that end with theirs. */
export function checkDigit(digits: string): number {
  let interim = 0;
  for (const digit of digits) interim = QUASIGROUP[interim]?.[Number(digit)] ?? 0;
  return interim;
}

/** The number whose first eleven digits are `index` modulo their count. */
export function plainFromIndex(index: bigint): string {
  const digits = (index % COUNT).toString().padStart(11, '0');
  return digits + checkDigit(digits).toString();
}

/** Whether `text` is the canonical form of a plain number. */
export function isPlain(text: string): boolean {
  return /^[0-9]{12}$/.test(text) && checkDigit(text) === 0;
}

/** A number as people read it: `4821 0937 5567`; words as they are. */
export function display(number: string): string {
  return isPlain(number) ? `${number.slice(0, 4)} ${number.slice(4, 8)} ${number.slice(8)}` : number;
}
