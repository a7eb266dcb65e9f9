// A browser phone on JsSIP: window.phone, driven by the tests through driver.mjs.
const connections = [];
const sounds = [];
const Native = window.RTCPeerConnection;

// Keep every connection for its statistics, and play what it receives: without a player there is
// no audio energy to measure.
window.RTCPeerConnection = function (...options) {
  const connection = new Native(...options);
  connections.push(connection);
  connection.addEventListener('track', (event) => {
    const sound = new Audio();
    sound.srcObject = event.streams[0] || new MediaStream([event.track]);
    sound.play();
    sounds.push(sound);
  });
  return connection;
};
window.RTCPeerConnection.prototype = Native.prototype;
window.RTCPeerConnection.generateCertificate = Native.generateCertificate;

const media = {mediaConstraints: {audio: true, video: false}, pcConfig: {iceServers: []}};

window.phone = {
  events: [],
  ua: null,
  session: null,

  note(name, detail) {
    this.events.push({name, ...detail});
  },

  // Register; resolves with 'registered' or the cause of the failure.
  start({user, password, url, domain = 'sip.test', expires = 120}) {
    this.ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(url)],
      uri: `sip:${user}@${domain}`,
      password,
      register_expires: expires,
      no_answer_timeout: 30,
    });
    this.ua.on('connected', () => this.note('connected'));
    this.ua.on('disconnected', (e) => this.note('disconnected', {code: e && e.code}));
    this.ua.on('newRTCSession', ({session, originator, request}) => {
      this.session = session;
      this.note('session', {originator, from: request.from.uri.toString()});
      for (const name of ['progress', 'accepted', 'confirmed', 'ended', 'failed', 'hold']) {
        session.on(name, (e) =>
          this.note(name, {
            originator: e && e.originator,
            cause: e && e.cause,
            status: e && e.message && e.message.status_code,
          }));
      }
    });
    return new Promise((resolve) => {
      this.ua.on('registered', () => {
        this.note('registered');
        resolve('registered');
      });
      this.ua.on('registrationFailed', (e) => {
        this.note('registrationFailed', {cause: e.cause});
        resolve(e.cause);
      });
      this.ua.start();
    });
  },

  call(target) {
    this.ua.call(target, media);
  },
  answer() {
    this.session.answer(media);
  },
  reject(status) {
    this.session.terminate({status_code: status});
  },
  hangup() {
    this.session.terminate();
  },
  hold() {
    return new Promise((resolve) => this.session.hold({}, () => resolve(true)));
  },

  // Of the latest connection.
  async stats() {
    const connection = connections[connections.length - 1];
    if (!connection) return {};
    const out = {ice: connection.iceConnectionState, state: connection.connectionState};
    (await connection.getStats()).forEach((report) => {
      if (report.type === 'inbound-rtp' && report.kind === 'audio')
        Object.assign(out, {received: report.packetsReceived, energy: report.totalAudioEnergy});
      if (report.type === 'outbound-rtp' && report.kind === 'audio') out.sent = report.packetsSent;
      if (report.type === 'transport')
        Object.assign(out, {dtls: report.dtlsState, cipher: report.srtpCipher});
    });
    return out;
  },

  // Unregister and disconnect.
  stop() {
    return new Promise((resolve) => {
      this.ua.on('disconnected', () => resolve(true));
      this.ua.stop();
    });
  },
};
