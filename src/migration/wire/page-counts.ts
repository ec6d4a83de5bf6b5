// Owns: what has gone or come, in pages. Any thread.

/** Pages that were taken in or given out. */
export interface PageCounts {
  pagesSent: number;
  pagesZero: number;
  pagesDuplicate: number;
}
