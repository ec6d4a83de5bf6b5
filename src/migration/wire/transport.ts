// Owns: what a channel needs of a network, as interfaces. Any thread.

/** How far the target has come: bytes of whole frames that are in its memory, and their number. */
export interface Applied {
  readonly offset: number;
  readonly frame: number;
}

export interface ChannelListener {
  onApplied(applied: Applied): void;
  /** Once. A StreamError is the target's refusal; else the network's. */
  onClosed(error: Error): void;
}

export interface ChannelConnection {
  /** Queues a frame; its bytes stay as they are until the target has applied them. */
  write(bytes: Uint8Array): void;
  /** Nothing is written after it; onClosed isn't called. */
  close(): void;
}

/** Requests for pages, as the source hears them. */
export interface DemandTransport {
  /**
   * Listens until it is closed or the connection is lost; then onClosed is called.
   * @throws as ChannelTransport.applied()
   */
  listen(listener: {
    onRequest(object: number, page: number): void;
    onClosed(error: Error): void;
  }): Promise<{ close(): void }>;
}

/** One channel's way to the target. */
export interface ChannelTransport {
  /** @throws StreamError the target's refusal; any other Error: it can't be reached */
  applied(): Promise<Applied>;
  /** @throws as applied() */
  connect(offset: number, listener: ChannelListener): Promise<ChannelConnection>;
}
