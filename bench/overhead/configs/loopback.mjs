// Portkey listens on every address and has no option for it: this keeps it on loopback.
import net from 'node:net';
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  return typeof port === 'number' ? listen.call(this, { port, host: '127.0.0.1' }, ...rest.filter((r) => typeof r === 'function')) : listen.call(this, port, ...rest);
};
